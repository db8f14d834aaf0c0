"""Where each dataset keeps its files."""
