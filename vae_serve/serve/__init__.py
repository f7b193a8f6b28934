"""The resident service: a bundle's networks over HTTP and gRPC. `server.run` starts it.

    protocol.py, server.py      connections: HTTP with deadlines and limits; start, signals, end
    app.py, routes.py           a request finds its endpoint and gets an answer; errors become sentences
    request.py, body.py         what a request is; its body, read and unpacked within limits
    inference.py, tensors.py    the Open Inference Protocol's infer, in JSON and with binary tensors
    metadata.py                 the protocol's other endpoints: health, metadata, configuration, statistics
    pictures.py, planes.py      picture files in, vectors out; points in, pictures out
    picture_pool.py             picture files are decoded in processes of their own
    networks.py, batching.py    the two networks, and how requests share their calls
    served.py, reloading.py     the bundle that is served, and how another takes its place
    grpc_service.py             the same answers over gRPC

Everything runs on one event loop; only networks, unpacking and large writes leave it. Nothing here imports TensorFlow.
"""
