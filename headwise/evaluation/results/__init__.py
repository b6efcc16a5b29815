"""Results of evaluations, comparisons and searches: tables, figures, files."""
