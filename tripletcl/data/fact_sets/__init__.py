"""Published sets of facts: their readers, and the table of facts that is made of any of them."""

from tripletcl.data.fact_sets.catalogue import FACT_SETS, FactSource, read_fact_set, read_records
from tripletcl.data.fact_sets.export import export_fact_set
from tripletcl.data.fact_sets.record import FactRecord
from tripletcl.data.fact_sets.spec import FactSetSpec

__all__ = ["FACT_SETS", "FactRecord", "FactSetSpec", "FactSource", "export_fact_set", "read_fact_set", "read_records"]
