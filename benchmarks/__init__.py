"""What the lab costs, as ratios measured side by side in one run. `make bench` runs everything here."""
