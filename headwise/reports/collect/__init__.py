"""Content of a report: collected from traces, results, comparisons and runs of examples."""
