// What a file says of itself, and what a host does by it: the golden comparison and the decision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace host {

// What is wrong, in one line; `code` is the exit code that says so.
struct Error : std::runtime_error {
    explicit Error(const std::string& text, int code = 2) : std::runtime_error(text), code(code) {}
    int code;
};

// What a host needs of a bundle; docs/bundle.md says what each means.
struct Bundle {
    std::string task;
    std::vector<std::string> labels;
    std::vector<double> thresholds;  // in the order of the labels
    int channels = 0, height = 0, width = 0;
    int depth = CV_8U;  // or CV_16U
    bool letterbox = false;
    int low = 0, high = 65535;  // the window of 16-bit values
    std::vector<int> golden_shape;  // [batch, height, width, channels], of the model's depth
    std::string golden_pixels;  // bytes, little-endian
    std::vector<double> golden_logits;
    double tolerance = 0;
};

inline std::string base64_bytes(const std::string& text) {
    static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    unsigned held = 0;
    int bits = 0;
    for (const char letter : text) {
        const auto value = alphabet.find(letter);
        if (value == std::string::npos) break;  // the padding at the end
        held = (held << 6) | static_cast<unsigned>(value);
        if ((bits += 6) >= 8) bytes.push_back(static_cast<char>(held >> (bits -= 8)));
    }
    return bytes;
}

inline int depth_of(const std::string& dtype) { return dtype == "uint16" ? CV_16U : CV_8U; }

// Returns the bundle that its JSON values, by the keys of docs/bundle.md, describe; where its images are prepared
// (`preprocessing`: inside the graph or outside) has to be what the host is made for.
inline Bundle read_bundle(const nlohmann::json& values, const std::string& preprocessing) {
    const std::string schema = values.value("schema", "none");
    if (schema != "imaging_ft.bundle/1" && schema != "imaging_ft.bundle/2")
        throw Error("bundle schema '" + schema + "', but this host reads imaging_ft.bundle/1 and imaging_ft.bundle/2");
    const auto graph = values.value("graph", nlohmann::json::object());
    if (const auto found = graph.value("preprocessing", "inside"); found != preprocessing)
        throw Error("made for hosts with preprocessing " + found + " the graph, not " + preprocessing +
                    "; export it with --target " + (preprocessing == "inside" ? "server-cpu" : "opencv-dnn"));
    Bundle bundle;
    bundle.task = values.at("task");
    for (const auto& label : values.at("labels")) {
        bundle.labels.push_back(label.at("name"));
        bundle.thresholds.push_back(values.at("thresholds").at(bundle.labels.back()));
    }
    const auto& input = values.at("input");
    bundle.channels = input.at("channels");
    bundle.height = input.at("height");
    bundle.width = input.at("width");
    bundle.depth = depth_of(input.at("dtype"));
    bundle.letterbox = input.at("resize") == "letterbox";
    if (const auto window = input.find("window"); window != input.end() && !window->is_null()) {
        bundle.low = window->at(0);
        bundle.high = window->at(1);
    }
    const auto& golden = values.at("golden");
    bundle.golden_shape = golden.at("shape").get<std::vector<int>>();
    bundle.golden_pixels = base64_bytes(golden.at("data"));
    for (const auto& row : golden.at("logits"))
        for (const double logit : row) bundle.golden_logits.push_back(logit);
    bundle.tolerance = golden.at("tolerance");
    return bundle;
}

// Throws, with exit code 1, where the golden sample's logits are off by more than its tolerance.
inline void check_golden(const Bundle& bundle, const std::vector<float>& logits) {
    double apart = logits.size() == bundle.golden_logits.size() ? 0 : INFINITY;
    for (size_t i = 0; i < logits.size() && apart != INFINITY; i++) {
        const double off = std::abs(logits[i] - bundle.golden_logits[i]);
        apart = off <= apart ? apart : std::isfinite(off) ? off : INFINITY;  // not a number is off as well
    }
    if (apart > bundle.tolerance) {
        char text[120];
        std::snprintf(text, sizeof text, "self-test failed: a logit is off by %.3g (allowed: %g)", apart, bundle.tolerance);
        throw Error(text, 1);
    }
}

struct Said {
    std::string label;
    double probability;
};

// Returns what the model says where it gives these probabilities.
inline Said decide(const Bundle& bundle, const std::vector<float>& probabilities) {
    for (const float one : probabilities)
        if (!std::isfinite(one)) throw Error("the model gives probabilities that are no numbers");
    const auto most = std::max_element(probabilities.begin(), probabilities.end());
    if (bundle.task != "multilabel") return {bundle.labels.at(most - probabilities.begin()), *most};
    Said said{"", -1};
    for (size_t i = 0; i < probabilities.size(); i++) {
        if (probabilities[i] < bundle.thresholds.at(i)) continue;
        said.label += (said.probability < 0 ? "" : "|") + bundle.labels[i];
        said.probability = std::max<double>(said.probability, probabilities[i]);
    }
    return said.probability < 0 ? Said{"", *most} : said;
}

}  // namespace host
