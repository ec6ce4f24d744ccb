// Predict images with a model exported by `imaging-ft export RUN -o model.onnx --target opencv-dnn`: OpenCV alone.
//
//     cmake -S . -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build
//     build/predict model.onnx IMAGE...
//
// Reads model.onnx.json beside the model: OpenCV gives no access to a model's metadata.
// Prints for each image its path, label, probability and time (from decoded pixels to probabilities), between tabs.
// Exit codes: 0 done; 1 the model does not give its golden logits; 2 a file is missing or of another kind.

#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>

#include "prepare.hpp"

namespace {

nlohmann::json read_sidecar(const std::string& path) {
    std::ifstream file(std::filesystem::u8path(path));
    if (!file) throw host::Error("there is no " + path + "; export it with --target opencv-dnn");
    return nlohmann::json::parse(file);
}

struct Model {
    host::Bundle bundle;
    cv::dnn::Net net;

    explicit Model(const std::string& path) {
        if (!std::ifstream(std::filesystem::u8path(path))) throw host::Error("no such model file");
        bundle = host::read_bundle(read_sidecar(path + ".json"), "outside");
        try {
            net = cv::dnn::readNetFromONNX(path);
        } catch (const cv::Exception& error) {
            throw host::Error("OpenCV can't load it: " + error.err.substr(0, error.err.find('\n')));
        }
        // The golden sample has the network's own size: only the window of 16-bit values is left to do.
        const auto& shape = bundle.golden_shape;
        const cv::Mat sample(
            shape.at(1), shape.at(2), CV_MAKETYPE(bundle.depth, shape.at(3)), bundle.golden_pixels.data());
        host::check_golden(bundle, forward("logits", host::prepared(sample, bundle)));
    }

    std::vector<float> probabilities(const cv::Mat& image) {
        return forward("probabilities", host::prepared(image, bundle));
    }

    // Returns an output for levels [height, width], which the graph takes as float32 [1, channels, height, width].
    std::vector<float> forward(const std::string& output, const cv::Mat& levels) {
        net.setInput(cv::dnn::blobFromImage(levels), "levels");
        const cv::Mat found = net.forward(output);
        return {found.begin<float>(), found.end<float>()};
    }
};

}  // namespace

int main(int count, char** arguments) {
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
    return host::run<Model>(count, arguments);
}
