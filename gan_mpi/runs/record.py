"""What a run directory says of its data, in config.json and in checkpoints."""

from dataclasses import asdict, dataclass, replace
from typing import TypedDict

from gan_mpi.config.running import RunConfig
from gan_mpi.config.values import composed
from gan_mpi.runs.records import Count, Positive


@dataclass(frozen=True)
class SiteRecord:
    """The data of one site."""

    source: str
    count: int
    sha256: str


class SiteDict(TypedDict):
    """A SiteRecord on disk."""

    source: str
    count: Positive
    sha256: str


class RequiredData(TypedDict):
    """What of a DataRecord is always on disk."""

    name: str
    source: str
    datadir: str | None
    glyphs: Positive | None
    count: Positive
    shape: list[Positive]
    sha256: str


class DataDict(RequiredData, total=False):
    """A DataRecord on disk."""

    resolution: Positive
    label_counts: list[Count]
    class_names: list[str]
    sites: list[SiteDict]
    transfer: str


@dataclass(frozen=True)
class DataRecord:
    """The data that a run is trained on."""

    name: str
    source: str
    datadir: str | None
    glyphs: int | None
    count: int
    shape: tuple[int, ...]  # (C, H, W) of an image, (d,) of a point
    sha256: str
    resolution: int = RunConfig.resolution
    label_counts: tuple[int, ...] = ()  # by class, if the networks are given labels
    class_names: tuple[str, ...] = ()  # theirs, where they are known
    sites: tuple[SiteRecord, ...] = ()  # if each rank is one
    transfer: str | None = None  # the checkpoint that the networks came from, if from one

    @property
    def classes(self) -> int:
        """How many classes the networks are told of, 0 without labels."""
        return len(self.label_counts)

    def class_name(self, label: int) -> str:
        """Return how a class is called: by its name, or its label where that is all there is."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    @property
    def are_points(self) -> bool:
        """Whether samples are points, and not images."""
        return len(self.shape) == 1

    def of_site(self, rank: int) -> "DataRecord":
        """Return the record with the data of one site."""
        return replace(self, **asdict(self.sites[rank]))

    def to_dict(self) -> DataDict:
        """Return what is on disk: without labels, sites or transfer where there are none."""
        content: DataDict = {
            "name": self.name,
            "source": self.source,
            "datadir": self.datadir,
            "glyphs": self.glyphs,
            "resolution": self.resolution,
            "count": self.count,
            "shape": list(self.shape),
            "sha256": self.sha256,
        }
        if self.label_counts:
            content["label_counts"] = list(self.label_counts)
        if self.class_names:
            content["class_names"] = list(self.class_names)
        if self.sites:
            content["sites"] = [
                {"source": site.source, "count": site.count, "sha256": site.sha256}
                for site in self.sites
            ]
        if self.transfer is not None:
            content["transfer"] = self.transfer
        return content

    @staticmethod
    def from_dict(saved: DataDict) -> "DataRecord":
        """Return the record that `to_dict` wrote."""
        return DataRecord(
            saved["name"],
            saved["source"],
            saved["datadir"],
            saved["glyphs"],
            saved["count"],
            tuple(saved["shape"]),
            saved["sha256"],
            saved.get("resolution", RunConfig.resolution),
            tuple(saved.get("label_counts", ())),
            tuple(map(composed, saved.get("class_names", ()))),
            tuple(SiteRecord(**site) for site in saved.get("sites", ())),
            saved.get("transfer"),
        )
