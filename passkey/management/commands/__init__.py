"""One module a command; its docstring is the command's help."""
