"""The character device: the raw /dev/cuse protocol of Linux."""
