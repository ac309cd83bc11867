"""Problems to run machines on; ``parse("wilson(positives=26, negatives=14)")`` builds one."""

from graftsim.problems.catalog import CONSTRUCTORS as CONSTRUCTORS
from graftsim.problems.catalog import NAMES as NAMES
from graftsim.problems.catalog import parse as parse
from graftsim.problems.problem import Problem as Problem
