"""How a command ends: the numbers that a shell or a scheduler sees."""

DONE, FAILED, MISUSED, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
