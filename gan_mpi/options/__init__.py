"""What commands share: options of fields, kinds of values, how a training begins."""
