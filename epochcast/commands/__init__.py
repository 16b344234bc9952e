"""Commands of the library, one file each."""
