// An exported network in C++ with OpenVINO: rows of floats in, one batch at a time; the outputs of each batch out.
//   openvino_cpp MODEL.onnx BATCH < rows > outputs
// Build against the Python wheel, which brings headers and libraries: see docs/runtimes.md.
#include <cstdio>
#include <openvino/openvino.hpp>

int main(int, char** arguments) {
    ov::Core core;
    // where the processor has bfloat16, OpenVINO would take that
    ov::CompiledModel model = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    ov::InferRequest request = model.create_infer_request();

    ov::PartialShape free = model.input().get_partial_shape();
    free[0] = std::stoi(arguments[2]);
    ov::Shape shape = free.to_shape();
    const size_t row = ov::shape_size(shape) / shape[0];
    std::vector<float> rows(ov::shape_size(shape));

    while (size_t count = std::fread(rows.data(), row * sizeof(float), shape[0], stdin)) {
        ov::Shape read = shape;
        read[0] = count;
        request.set_input_tensor(ov::Tensor(ov::element::f32, read, rows.data()));
        request.infer();
        for (const auto& output : model.outputs()) {
            ov::Tensor result = request.get_tensor(output);
            std::fwrite(result.data<float>(), sizeof(float), result.get_size(), stdout);
        }
    }
}
