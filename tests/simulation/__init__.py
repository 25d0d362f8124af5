"""Whole histories of the protocol in virtual time: production code over simulated stores, network and clocks."""
