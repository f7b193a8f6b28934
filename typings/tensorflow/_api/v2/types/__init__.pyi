from tensorflow._api.v2.types import experimental as experimental
