r"""Path templates that find, read and write file names: one pattern, used both ways.

* `{name}`: any text within one folder level, as short as fits
* `{name:train|test}`: one of these texts
* `{name:%Y%m%d}`: a date (UTC), and the interval that it denotes
* `{name:3d}`: a whole number of exactly three digits; `{name:d}`: of any width, unpadded
* `{name:[A-Z]{2}\d+}`: a regular expression, told by any of ``\ [ ] ( ) { } * ? ^ $``
* `{_name}`, `{_name:form}`: any of these, matched and passed over
* `**/`: any number of folders, also none

A field that is repeated has the same text everywhere, and needs its form only once.
"""

from geoxt.template.fields import Field, Interval, Value
from geoxt.template.path_template import Fields, Template

__all__ = ["Field", "Fields", "Interval", "Template", "Value"]
