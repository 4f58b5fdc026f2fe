"""Xen's tpmif version 2 between two domains: pages, event channels, xenstore and both ends of the ring."""
