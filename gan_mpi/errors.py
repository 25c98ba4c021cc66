"""The one exception that carries a sentence for the user."""

DIVERGED = 76  # exit code


class UserError(Exception):
    """Something that the user can mend, said in one sentence.

    `exit_code` is 1 (could not) unless the caller asked wrongly (2), started the program with the
    launcher of another MPI (64), or the run has no finite numbers any more (76).  `on_all_ranks` is
    true once every rank is known to raise the same error, so that it is printed once and no rank
    has to be stopped by force.
    """

    def __init__(self, message: str, exit_code: int = 1, on_all_ranks: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.on_all_ranks = on_all_ranks


def reason(error: OSError) -> str:
    """Say why the operating system refused, without the path that str(error) repeats."""
    return error.strerror or type(error).__name__
