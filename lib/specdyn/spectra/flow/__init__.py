"""Who feeds whom: which matrix of a network reads the outputs of which."""

from specdyn.spectra.flow.calls import Flow as Flow
from specdyn.spectra.flow.calls import feeds as feeds
from specdyn.spectra.flow.calls import follow as follow
from specdyn.spectra.flow.declarations import declare as declare
from specdyn.spectra.flow.walk import Arrow as Arrow
from specdyn.spectra.flow.walk import Pair as Pair
