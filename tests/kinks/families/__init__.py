"""The families of the corpus, a file each; every file has a list `MEMBERS`."""
