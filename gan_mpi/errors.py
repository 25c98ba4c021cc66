"""The one exception that carries a sentence for the user."""

WRONG, DIVERGED = 2, 76  # exit codes


class UserError(Exception):
    """Something that the user can mend, said in one sentence.

    `exit_code` is 1 (could not) unless the caller asked wrongly (2), started the program with the
    launcher of another MPI (64), or the run has no finite numbers any more (76).  A communicator
    sets `on_all_ranks` once every rank is known to raise the same error, so that it is printed
    once and no rank has to be stopped by force.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(printable(message.replace("\n", "\\n").replace("\t", "\\t")))
        self.exit_code = exit_code
        self.on_all_ranks = False

    def retold(self, message: str, exit_code: int) -> "UserError":
        """Return the same error in other words, still that of all ranks if it was."""
        other = UserError(message, exit_code)
        other.on_all_ranks = self.on_all_ranks
        return other


class Refused(UserError):
    """The operating system refused a file: there is no room for it, say, which may pass."""


def printable(text: str) -> str:
    """Return a text without control characters but line breaks and tabs, for a terminal or a log.

    File names, archives and mirrors can hold any; they are written as Python would, such as \\x1b.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def flag(option: str) -> str:
    """Return a parameter name as the command line spells it."""
    return "--" + option.replace("_", "-")


def invalid_value(option: str, why: str, exit_code: int = WRONG) -> UserError:
    """Return click's sentence about the value of an option, a parameter name: say `why`."""
    return UserError(f"Invalid value for '{flag(option)}': {why}.", exit_code)


def reason(error: OSError) -> str:
    """Say why the operating system refused, without the path that str(error) repeats."""
    return error.strerror or type(error).__name__
