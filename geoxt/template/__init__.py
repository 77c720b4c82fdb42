r"""Path templates: one pattern to search, parse and format file names.

* `{name}`: any text within one folder level, as short as fits
* `{name:train|test}`: one of several choices
* `{name:%Y%m%d}`: a date (UTC), in the codes of `datetime.strptime`
* `{name:3d}`: an integer of exactly three digits; `{name:d}`: of any width, unpadded
* `{name:[A-Z]{2}\d+}`: a regular expression, recognized by any of ``\ [ ] ( ) { } * ? ^ $``
* `{_name}`, `{_name:form}`: any of these, matched but not returned
* `**/`: any number of folders, including none

A repeated field must have the same text everywhere; its form is written once.
"""

from geoxt.template.fields import Field, Interval, Value
from geoxt.template.path_template import Fields, Template

__all__ = ["Field", "Fields", "Interval", "Template", "Value"]
