"""The page of `qsim study report`: curves on any axis, findings and tables, in one file that needs nothing else."""
