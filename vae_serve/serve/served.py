"""What is served: a bundle's two networks under their names, and the rule by which pictures become their input."""

from typing import TYPE_CHECKING

import msgspec

from vae_serve.deploy.triton import stem
from vae_serve.errors import BundleError
from vae_serve.images.pixels import PixelRule
from vae_serve.model import bundle as bundles
from vae_serve.model.manifest import Manifest
from vae_serve.model.model import Model
from vae_serve.serve.networks import Network, of_role

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place


class Served(msgspec.Struct, frozen=True):
    """A bundle, ready to answer. Another one takes its place as a whole."""

    path: "Place"
    """Its folder, or its place in an object store."""
    model: Model
    """Its networks over arrays."""
    networks: dict[str, Network]
    """By the names that the Triton layout gives them."""
    rule: PixelRule
    """From a picture file to the encoder's input."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.model.manifest

    @property
    def encoder(self) -> Network:
        """Images to z_mean and z_log_var."""
        return of_role(self.networks, "encoder")

    @property
    def decoder(self) -> Network:
        """z to images."""
        return of_role(self.networks, "decoder")


def load(path: "Place") -> Served:
    """The bundle at a place: checked, both networks opened, run and measured.

    Raises:
        BundleError: names the file and the reason.
    """
    model = Model(bundles.load(path), threads=1)
    manifest = model.manifest
    networks: dict[str, Network] = {}
    for graph in (manifest.encoder, manifest.decoder):
        if graph is None:
            raise BundleError(f"{path} holds no ONNX files, which serve needs; export them: vae-serve export")
        name = f"{stem(manifest)}_{graph.role}"
        networks[name] = Network(name, graph, model)
    return Served(path, model, networks, PixelRule.from_json(manifest.pixels))
