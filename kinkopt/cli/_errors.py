"""How a job ends: the exit codes, and the exception for what the user can put right."""

OK, FOUND_WRONG, USAGE, UNDECIDED = 0, 1, 2, 3
# 128 and the number of SIGINT or SIGPIPE, as a shell reports them.
INTERRUPTED, READER_LEFT = 130, 141


class UsageError(Exception):
  """The command line, a file or the data cannot be used; the text says what to do about it."""
