"""Vertebrae found in both films: network, decoding and evaluation."""
