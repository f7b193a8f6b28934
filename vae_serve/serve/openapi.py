"""The service described in OpenAPI 3.1, for the bundle that is served: `GET /openapi.json`.

Written by hand: it is small, and nothing else has to be what a generator makes of it. `tests/serve/test_openapi.py`
compares it with the routes, and sends what it allows and what it does not.
"""

from typing import Any

from vae_serve import __version__
from vae_serve.serve.inference import MOST_OUTPUTS
from vae_serve.serve.limits import Limits
from vae_serve.serve.networks import VERSION, Network
from vae_serve.serve.planes import FARTHEST, NUMBER, most_side
from vae_serve.serve.served import Served

Json = dict[str, Any]

_ERROR = {"$ref": "#/components/schemas/Error"}
_SENTENCES = {
    400: "Something in the request is wrong; the sentence says what.",
    404: "There is no such model or version.",
    405: "The endpoint takes another method; see Allow.",
    408: "The header or the body did not come in time.",
    413: "The body, the picture or the answer would be too large.",
    415: "The Content-Type or the Content-Encoding is not known.",
    422: "The picture cannot be read; `kind` says why.",
    503: "The service is busy or ending; try again.",
}


def document(served: Served, limits: Limits) -> Json:
    """The whole description."""
    paths: Json = {
        "/v2": {
            "get": _get("Name, version and extensions", _object(name="string", version="string", extensions="array"))
        },
        "/v2/health/live": {"get": _get("Whether it lives", _object(live="boolean"))},
        "/v2/health/ready": {"get": _get("Whether it answers", _object(ready="boolean"), 503)},
        "/v2/models/stats": {"get": _get("What has been asked of all models", _object(model_stats="array"))},
        "/metrics": {"get": _get("Figures for Prometheus", {"type": "string"}, media="text/plain")},
        "/openapi.json": {"get": _get("This description", {"type": "object"})},
    }
    for network in served.networks.values():
        for base in (f"/v2/models/{network.name}", f"/v2/models/{network.name}/versions/{VERSION}"):
            paths |= _of_model(base, network, limits)
    paths |= _of_pictures(served, limits)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vae-serve",
            "version": __version__,
            "summary": f"The encoder and the decoder of {served.manifest.name}, a variational autoencoder.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _schemas() -> Json:
    text = {"type": "string", "maxLength": 1000}
    parameters = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}
    answer = _object(model_name="string", model_version="string", id="string")
    answer["properties"]["outputs"] = {
        "type": "array",
        "items": _object(name="string", datatype="string", shape="array"),
    }
    answer["required"] = ["model_name", "model_version", "outputs"]
    return {
        "Error": {
            "type": "object",
            "properties": {"error": text, "kind": text},
            "required": ["error"],
            "additionalProperties": False,
        },
        "Parameters": parameters,
        "InferAnswer": answer,
    }


def _object(**fields: str) -> Json:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": [*fields],
    }


def _responses(content: Json, *statuses: int) -> Json:
    errors = {
        str(status): {"description": _SENTENCES[status], "content": {"application/json": {"schema": _ERROR}}}
        for status in sorted(statuses)
    }
    return {"200": {"description": "The answer.", "content": content}, **errors}


def _get(summary: str, schema: Json, *statuses: int, media: str = "application/json", **more: Any) -> Json:
    return {"summary": summary, "responses": _responses({media: {"schema": schema}}, 400, *statuses), **more}


def _of_model(base: str, network: Network, limits: Limits) -> Json:
    tensors = {"type": "array", "items": _object(name="string", datatype="string", shape="array")}
    metadata = _object(name="string", versions="array", platform="string")
    metadata["properties"] |= {"inputs": tensors, "outputs": tensors}
    configuration = _object(name="string", platform="string", backend="string", max_batch_size="integer")
    answer = {"$ref": "#/components/schemas/InferAnswer"}
    content = {
        "application/json": {"schema": answer},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    infer = {
        "summary": f"Runs the {network.role}",
        "description": "JSON as here, or JSON and binary tensors, with Inference-Header-Content-Length.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _request(network, limits)}}},
        "responses": _responses(content, 400, 408, 413, 415, 503),
    }
    return {
        base: {"get": _get("The tensors of the model", metadata)},
        f"{base}/ready": {"get": _get("Whether the model answers", _object(ready="boolean"), 503)},
        f"{base}/config": {"get": _get("The configuration as Triton has it", configuration)},
        f"{base}/stats": {"get": _get("What has been asked of the model", _object(model_stats="array"))},
        f"{base}/infer": {"post": infer},
    }


def _request(network: Network, limits: Limits) -> Json:
    rows = network.rows_limit(limits.answer_bytes)
    fixed = [{"const": side} for side in network.row_shape]
    shape = {
        "type": "array",
        "description": f"Rows first, {rows:,} at most, and a quarter of it where the answer is JSON; more is 413.",
        "prefixItems": [{"type": "integer", "minimum": 1}, *fixed],
        "minItems": len(fixed) + 1,
        "maxItems": len(fixed) + 1,
    }
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    given = {
        "type": "object",
        "properties": {
            "name": {"const": network.input.name},
            "datatype": {"enum": list(network.accepted)},
            "shape": shape,
            "data": {**numbers, "description": "Row-major, flat or nested as the shape says."},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
        },
        "required": ["name", "datatype", "shape"],
    }
    wanted = {
        "type": "object",
        "properties": {
            "name": {"enum": [output.name for output in network.outputs]},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
        },
        "required": ["name"],
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "inputs": {"type": "array", "items": given, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": wanted, "maxItems": MOST_OUTPUTS},
        },
        "required": ["inputs"],
    }


def _of_pictures(served: Served, limits: Limits) -> Json:
    d = served.manifest.latent_dim
    flag = {"type": "string", "enum": ["true", "false"], "default": "false"}
    vectors = _object(model="string", version="string", width="integer", height="integer", notes="array")
    for name in ("z_mean", "z_log_var"):
        vectors["properties"][name] = {"type": "array", "items": {"type": "number"}, "minItems": d, "maxItems": d}
    file = {
        "required": True,
        "description": f"A PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or AVIF file, {limits.picture_bytes:,} bytes at most.",
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}}
            for media in ("application/octet-stream", "image/png", "image/jpeg")
        },
    }
    failing = (400, 408, 413, 415, 422, 503)
    png = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    point = {"type": "string", "pattern": f"^{NUMBER}(,{NUMBER}){{{d - 1}}}$", "description": f"|z| <= {FARTHEST:g}"}
    side = {"type": "integer", "minimum": 1, "maximum": most_side(served), "default": 15}
    return {
        "/v1/encode": {
            "post": {
                "summary": "The vectors of a picture file",
                "requestBody": file,
                "responses": _responses({"application/json": {"schema": vectors}}, *failing),
            }
        },
        "/v1/reconstruct": {
            "post": {
                "summary": "The reconstruction of a picture file",
                "parameters": [_parameter("beside", flag, "Whether the picture is shown at the left.")],
                "requestBody": file,
                "responses": _responses(png, *failing),
            }
        },
        "/v1/decode.png": {
            "get": {
                "summary": "The picture at a point of the latent space",
                "parameters": [_parameter("z", point, f"{d} numbers with commas between.", required=True)],
                "responses": _responses(png, 400, 503),
            }
        },
        "/v1/grid.png": {
            "get": {
                "summary": "The latent plane",
                "parameters": [
                    _parameter("side", side, "Pictures along a side."),
                    _parameter("span", {"type": "number", "exclusiveMinimum": 0, "maximum": FARTHEST}, "Reach."),
                    _parameter("slice", {"type": "string", "examples": ["0,1"]}, "The two dimensions."),
                    _parameter("quantiles", flag, "Equal steps of the prior's probability in place of span."),
                ],
                "responses": _responses(png, 400, 503),
            }
        },
    }


def _parameter(name: str, schema: Json, description: str, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}
