"""Commands, one file each: options and help texts; the work is done elsewhere."""
