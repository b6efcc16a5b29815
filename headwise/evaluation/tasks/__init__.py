"""Tasks, one module each; `headwise.evaluation.task_names()` lists them."""
