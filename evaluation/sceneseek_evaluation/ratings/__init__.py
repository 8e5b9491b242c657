"""Human ratings of image-caption pairs: experts' scores, crowd votes, and what users of the service said.

Three formats become one `Ratings`, a target in [0, 1] for each pair of an image and a text:

- **expert**: a table (see `tables`) of ``image``, ``caption_id`` and two or more of ``s1``, ``s2``, ``s3``...,
  whole numbers from 1 (no match) to 4 (full match). Target: (their mean, median or majority - 1) / 3.
- **crowd**: a table of ``image``, ``caption_id``, ``frac``, ``yes``, ``no``. Target: yes / (yes + no).
- **feedback**: JSON lines that `sceneseek feedback export` prints, objects with ``query``, ``image``, ``rating``
  (1 to 4) and maybe ``rater``; other fields are ignored. Target: as the experts'.

Either table may come without its header, as Hodosh, Young and Hockenmaier handed theirs out (Framing Image
Description as a Ranking Task, JAIR 47, 2013). Images are named by paths relative to their folder; a pair is an
image's name and a caption's text. Whatever is left out or merged is counted and logged by name; a line that
cannot be read is a DataError with its number. How a target is learned or measured is not known here.
"""

from sceneseek_evaluation.ratings.base import Aggregation, Ratings
from sceneseek_evaluation.ratings.feedback import read_feedback
from sceneseek_evaluation.ratings.folder import ImageFolder
from sceneseek_evaluation.ratings.gathering import pooled
from sceneseek_evaluation.ratings.tables import read_crowd, read_expert

__all__ = [
    "Aggregation",
    "ImageFolder",
    "Ratings",
    "pooled",
    "read_crowd",
    "read_expert",
    "read_feedback",
]
