"""The findings as text: tables, sentences, Markdown, LaTeX, CSV, the tables of the paper and a W&B report."""
