"""The messages of `inference.GRPCInferenceService`, as far as the service speaks it, without a generated module.

The text below is in the language of the published definitions
(https://github.com/triton-inference-server/common, protobuf/grpc_service.proto and model_config.proto), which KServe's
Open Inference Protocol shares. They are kept in a pool of their own: a program may load the published ones, too. What
is left out is passed over when it comes. `tests/serve/test_grpc.py` compares every field with tritonclient's.
"""

import re
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"

PROTO = """
message ServerLiveRequest {}
message ServerLiveResponse { bool live = 1; }
message ServerReadyRequest {}
message ServerReadyResponse { bool ready = 1; }
message ModelReadyRequest { string name = 1; string version = 2; }
message ModelReadyResponse { bool ready = 1; }
message ServerMetadataRequest {}
message ServerMetadataResponse { string name = 1; string version = 2; repeated string extensions = 3; }
message ModelMetadataRequest { string name = 1; string version = 2; }
message TensorMetadata { string name = 1; string datatype = 2; repeated int64 shape = 3; }
message ModelMetadataResponse {
  string name = 1; repeated string versions = 2; string platform = 3;
  repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5;
}
message InferParameter {
  bool bool_param = 1; int64 int64_param = 2; string string_param = 3; double double_param = 4; uint64 uint64_param = 5;
}
message InferTensorContents { repeated uint32 uint_contents = 4; repeated float fp32_contents = 6; }
message InferInputTensor {
  string name = 1; string datatype = 2; repeated int64 shape = 3;
  map<string, InferParameter> parameters = 4; InferTensorContents contents = 5;
}
message InferRequestedOutputTensor { string name = 1; map<string, InferParameter> parameters = 2; }
message ModelInferRequest {
  string model_name = 1; string model_version = 2; string id = 3; map<string, InferParameter> parameters = 4;
  repeated InferInputTensor inputs = 5; repeated InferRequestedOutputTensor outputs = 6;
  repeated bytes raw_input_contents = 7;
}
message InferOutputTensor { string name = 1; string datatype = 2; repeated int64 shape = 3; }
message ModelInferResponse {
  string model_name = 1; string model_version = 2; string id = 3;
  repeated InferOutputTensor outputs = 5; repeated bytes raw_output_contents = 6;
}
message ModelInput { string name = 1; int32 data_type = 2; repeated int64 dims = 4; }
message ModelOutput { string name = 1; int32 data_type = 2; repeated int64 dims = 3; }
message ModelConfig {
  string name = 1; string platform = 2; int32 max_batch_size = 4;
  repeated ModelInput input = 5; repeated ModelOutput output = 6; string backend = 17;
}
message ModelConfigRequest { string name = 1; string version = 2; }
message ModelConfigResponse { ModelConfig config = 1; }
message StatisticDuration { uint64 count = 1; uint64 ns = 2; }
message InferStatistics {
  StatisticDuration success = 1; StatisticDuration fail = 2; StatisticDuration queue = 3;
  StatisticDuration compute_input = 4; StatisticDuration compute_infer = 5; StatisticDuration compute_output = 6;
  StatisticDuration cache_hit = 7; StatisticDuration cache_miss = 8;
}
message InferBatchStatistics {
  uint64 batch_size = 1; StatisticDuration compute_input = 2;
  StatisticDuration compute_infer = 3; StatisticDuration compute_output = 4;
}
message ModelStatistics {
  string name = 1; string version = 2;
  uint64 last_inference = 3; uint64 inference_count = 4; uint64 execution_count = 5;
  InferStatistics inference_stats = 6; repeated InferBatchStatistics batch_stats = 7;
}
message ModelStatisticsRequest { string name = 1; string version = 2; }
message ModelStatisticsResponse { repeated ModelStatistics model_stats = 1; }
"""

DATA_TYPES = {"TYPE_UINT8": 2, "TYPE_FP32": 11}  # of the enumeration inference.DataType

_FIELD = re.compile(r"(repeated )?(?:map<string, (\w+)>|(\w+)) (\w+) = (\d+);")
_MESSAGE = re.compile(r"message (\w+) \{(.*?)\}", re.DOTALL)


@cache
def messages() -> dict[str, Any]:
    """The message classes by name."""
    file = descriptor_pb2.FileDescriptorProto(name="vae_serve.proto", package="inference", syntax="proto3")
    for name, body in _MESSAGE.findall(PROTO):
        _add(file.message_type.add(name=name), body)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in names}


def _add(message: Any, body: str) -> None:
    for repeated, map_of, kind, name, number in _FIELD.findall(body):
        field = message.field.add(name=name, number=int(number), label=3 if repeated or map_of else 1)
        if map_of:
            entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
            entry.options.map_entry = True
            _add(entry, f"string key = 1; {map_of} value = 2;")
            field.type, field.type_name = 11, f".inference.{message.name}.{entry.name}"
        elif kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = 11, f".inference.{kind}"


_SCALARS = {  # google.protobuf.FieldDescriptorProto.Type
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
