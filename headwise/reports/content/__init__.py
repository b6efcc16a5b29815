"""Values that stand on a page of a report, before any markup is made of them."""
