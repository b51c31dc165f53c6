"""Methods x sequences x seeds, side by side: planned, run in processes, written as tables and a page."""
