"""Reading other people's files: which column is which, and what each cell says."""
