"""The results of a run as tables, sentences, Markdown, LaTeX, CSV, tables of the paper and a W&B report."""
