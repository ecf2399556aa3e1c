"""Measures dustdevil: compare (its engines), bench (beside other servers), wsgi_bench (Python applications)."""
