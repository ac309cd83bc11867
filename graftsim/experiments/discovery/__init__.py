"""Discovery: from the record of a graft to learning-rate corrections with which the direction trains alone.

The 2021 paper, section 5: the ratios of the lengths of both steps, group by group, are a schedule for the direction;
their medians over the first steps, and coarser numbers still, are corrections. The 2020 paper, sections 3.4 and B.1:
the ratio of all groups together follows a line or a power of the step.
"""
