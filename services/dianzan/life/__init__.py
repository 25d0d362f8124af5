"""The steps of a campaign's life, over store and ledger."""
