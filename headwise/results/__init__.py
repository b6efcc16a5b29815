"""Results: what analyses, studies and comparisons find, as tables that know what they are."""
