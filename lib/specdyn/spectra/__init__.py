"""What is measured on weights: matrices, their decompositions, and pure functions of spectra.

Depends on PyTorch and NumPy alone and works on any ``torch.nn.Module``.
"""

from specdyn.spectra.decompose import SVD as SVD
from specdyn.spectra.decompose import Method as Method
from specdyn.spectra.decompose import decompose as decompose
from specdyn.spectra.decompose import singular_values as singular_values
from specdyn.spectra.decompose import truncate as truncate
from specdyn.spectra.describe import Description as Description
from specdyn.spectra.describe import describe as describe
from specdyn.spectra.directions import agreement as agreement
from specdyn.spectra.directions import agreement_block as agreement_block
from specdyn.spectra.directions import agreement_chance as agreement_chance
from specdyn.spectra.directions import alignment as alignment
from specdyn.spectra.directions import alignment_block as alignment_block
from specdyn.spectra.directions import alignment_chance as alignment_chance
from specdyn.spectra.directions import principal_angles as principal_angles
from specdyn.spectra.directions import sampled_chance as sampled_chance
from specdyn.spectra.directions import subspace_agreement as subspace_agreement
from specdyn.spectra.directions import subspace_agreement_chance as subspace_agreement_chance
from specdyn.spectra.directions import top_score as top_score
from specdyn.spectra.flow import Flow as Flow
from specdyn.spectra.flow import Pair as Pair
from specdyn.spectra.flow import declare as declare
from specdyn.spectra.flow import feeds as feeds
from specdyn.spectra.flow import follow as follow
from specdyn.spectra.layers import Part as Part
from specdyn.spectra.layers import cut as cut
from specdyn.spectra.layers import heads as heads
from specdyn.spectra.layers import read_module as read_module
from specdyn.spectra.matrices import LeftOut as LeftOut
from specdyn.spectra.matrices import Matrix as Matrix
from specdyn.spectra.matrices import Reading as Reading
from specdyn.spectra.matrices import find as find
from specdyn.spectra.matrices import matrices as matrices
from specdyn.spectra.matrices import read as read
from specdyn.spectra.metrics import count_rank as count_rank
from specdyn.spectra.metrics import effective_rank as effective_rank
from specdyn.spectra.metrics import frobenius_norm as frobenius_norm
from specdyn.spectra.metrics import gini as gini
from specdyn.spectra.metrics import nuclear_norm as nuclear_norm
from specdyn.spectra.metrics import spectral_entropy as spectral_entropy
from specdyn.spectra.metrics import spectral_norm as spectral_norm
from specdyn.spectra.metrics import stable_rank as stable_rank
from specdyn.spectra.snapshot import PairLike as PairLike
from specdyn.spectra.snapshot import Rule as Rule
from specdyn.spectra.snapshot import Snapshot as Snapshot
from specdyn.spectra.snapshot import Spectrum as Spectrum
from specdyn.spectra.snapshot import measure as measure
