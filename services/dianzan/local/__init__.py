"""Everything on one machine: stores from wheels, child processes, the demo campaign."""
