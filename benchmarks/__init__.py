"""Measurements that need other people's software; no part of the product."""
