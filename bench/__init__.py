"""Figures, measured: `python -m bench NAME --json` prints one JSON object {"name", "figures", "machine"}."""
