// Predict images with an exported model: onnxruntime's C++ API, and OpenCV as the decoder.
//
//     cmake -S . -B build -DORT_ROOT=/opt/onnxruntime -DCMAKE_BUILD_TYPE=Release && cmake --build build
//     build/predict model.onnx IMAGE...
//
// Prints for each image its path, label, probability and time (from decoded pixels to probabilities), between tabs.
// Exit codes: 0 done; 1 the model does not give its golden logits; 2 a file is missing or of another kind.

#include <onnxruntime_cxx_api.h>

#include "../cpp/host.hpp"

namespace {

const std::string PREFIX = "imaging_ft.";

// Returns the values of the metadata keys `imaging_ft.<name>` by name.
nlohmann::json read_metadata(const Ort::Session& session) {
    const Ort::AllocatorWithDefaultOptions allocator;
    const Ort::ModelMetadata metadata = session.GetModelMetadata();
    nlohmann::json values = nlohmann::json::object();
    for (const auto& key : metadata.GetCustomMetadataMapKeysAllocated(allocator)) {
        const std::string name = key.get();
        if (name.rfind(PREFIX, 0) != 0) continue;
        const auto text = metadata.LookupCustomMetadataMapAllocated(key.get(), allocator);
        values[name.substr(PREFIX.size())] = nlohmann::json::parse(text.get());
    }
    return values;
}

struct Model {
    host::Bundle bundle;
    Ort::Env env{ORT_LOGGING_LEVEL_ERROR, "host"};
    Ort::Session session{nullptr};

    explicit Model(const std::string& path) {
        const auto native = std::filesystem::u8path(path);
        if (!std::filesystem::is_regular_file(native)) throw host::Error("no such model file");
        session = Ort::Session(env, native.c_str(), Ort::SessionOptions{});
        bundle = host::read_bundle(read_metadata(session), "inside");
        const std::vector<int64_t> shape(bundle.golden_shape.begin(), bundle.golden_shape.end());
        const cv::Mat flat(1, static_cast<int>(bundle.golden_pixels.size()), CV_8U, bundle.golden_pixels.data());
        host::check_golden(bundle, forward("logits", flat, shape));
    }

    std::vector<float> probabilities(const cv::Mat& image) {
        return forward("probabilities", image, {1, image.rows, image.cols, image.channels()});
    }

    // Returns an output, row by row, for pixels of a shape [batch, height, width, channels] in the model's type.
    std::vector<float> forward(const char* output, const cv::Mat& pixels, const std::vector<int64_t>& shape) {
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        const auto type =
            bundle.depth == CV_16U ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        const Ort::Value input = Ort::Value::CreateTensor(
            memory, pixels.data, pixels.total() * pixels.elemSize(), shape.data(), shape.size(), type);
        const char* name = "image";
        const auto found = session.Run(Ort::RunOptions{nullptr}, &name, &input, 1, &output, 1);
        const float* values = found.front().GetTensorData<float>();
        return {values, values + found.front().GetTensorTypeAndShapeInfo().GetElementCount()};
    }
};

}  // namespace

int main(int count, char** arguments) { return host::run<Model>(count, arguments); }
