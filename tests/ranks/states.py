"""What a checkpoint holds, to compare two."""


def flat(value, name=""):
    """Yield all tensors, numbers and strings of a nested state by name."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from flat(inner, f"{name}.{key}")
    else:
        yield name, value
