"""One file per paper. `ls core/methods` is the list of methods."""
