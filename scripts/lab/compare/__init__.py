"""The work behind scripts/compare: four engines measured side by side, and a report of it.

Reading order: __main__ (the order of a run), experiments (what is measured), engines and common (how), models (what a reader
should have predicted), results (what is kept), plots, findings and report (what is shown), check (what a result must hold).
"""
