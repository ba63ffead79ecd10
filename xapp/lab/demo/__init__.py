"""The demo: every process of the system on one machine, watched live, measured, and told as a report.

Belongs here: supervising the processes (:mod:`~xapp.lab.demo.supervisor`), the terminal view, the arithmetic
of the summary and the HTML report. Does not: anything that the system itself needs. The demo only starts the
same processes as a testbed does and reads what they publish; it never reaches into them.
"""
