// What the two C++ hosts share: image files and the command line.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "bundle.hpp"

namespace host {

// Returns a colour image in gray: ITU-R BT.601, in integers, so that every host rounds a half alike.
template <class Value>
cv::Mat luma(const cv::Mat& image) {
    cv::Mat gray(image.size(), CV_MAKETYPE(image.depth(), 1));
    for (int y = 0; y < image.rows; y++) {
        const Value* from = image.ptr<Value>(y);  // OpenCV's order is blue, green, red
        for (int x = 0; x < image.cols; x++, from += 3)
            gray.ptr<Value>(y)[x] = static_cast<Value>((114u * from[0] + 587u * from[1] + 299u * from[2] + 500) / 1000);
    }
    return gray;
}

// Returns an image file [height, width] in the model's channels (RGB) and depth, upright.
inline cv::Mat read_image(const std::string& path, const Bundle& bundle) {
    std::ifstream file(std::filesystem::u8path(path), std::ios::binary);
    if (!file) throw Error("no such image file");
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (bytes.empty()) throw Error("the file is empty");
    const std::string tail(bytes.end() - std::min<std::ptrdiff_t>(bytes.size(), 4096), bytes.end());
    const bool is_jpeg = bytes[0] == '\xff', is_png = bytes[0] == '\x89';
    if ((is_jpeg && tail.find("\xff\xd9") == std::string::npos) || (is_png && tail.find("IEND") == std::string::npos))
        throw Error("the file is cut short");  // OpenCV fills what is missing of a JPEG, and says nothing
    const cv::Mat stored = cv::imdecode(bytes, cv::IMREAD_UNCHANGED);
    if (stored.empty()) throw Error("can't be read as an image");
    double least = 0;
    if (stored.channels() == 4) {
        cv::Mat alpha;
        cv::extractChannel(stored, alpha, 3);
        cv::minMaxLoc(alpha, &least);
        if (least < (stored.depth() == CV_16U ? 65535 : 255))
            throw Error("has transparent pixels; save it without transparency");
    }
    cv::Mat image = cv::imdecode(bytes, cv::IMREAD_ANYDEPTH | cv::IMREAD_ANYCOLOR);  // without alpha, upright
    if (image.depth() != CV_8U && image.depth() != CV_16U) throw Error("its pixels are not 8 or 16-bit integers");
    if (image.depth() == CV_8U && bundle.depth == CV_16U) image.convertTo(image, CV_16U, 257);
    if (image.depth() == CV_16U && bundle.depth == CV_8U) image.convertTo(image, CV_8U, 1.0 / 257);
    if (image.channels() == 3 && bundle.channels == 1)
        image = image.depth() == CV_8U ? luma<uchar>(image) : luma<ushort>(image);
    else if (image.channels() == 3)
        cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
    else if (bundle.channels == 3)
        cv::cvtColor(image, image, cv::COLOR_GRAY2RGB);
    return image;
}

// Runs a whole program: `Model` is constructed from a path, has a `bundle` and gives `probabilities(image)`.
template <class Model>
int run(int count, char** arguments) {
    if (count < 3) {
        std::fprintf(stderr, "usage: %s model.onnx IMAGE...\n", arguments[0]);
        return 2;
    }
    int worst = 0;
    const char* at = arguments[1];
    const auto failed = [&](const std::string& text) {
        std::fprintf(stderr, "%s: %s\n", at, text.substr(0, text.find('\n')).c_str());
    };
    try {
        Model model(at);
        for (int i = 2; i < count; i++) {
            at = arguments[i];
            try {
                const cv::Mat image = read_image(at, model.bundle);
                const auto start = std::chrono::steady_clock::now();
                const Said said = decide(model.bundle, model.probabilities(image));
                const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
                std::printf("%s\t%s\t%.6f\t%.1f ms\n", at, said.label.c_str(), said.probability, took.count());
            } catch (const std::exception& error) {  // one bad image does not stop the others
                failed(error.what());
                worst = 2;
            }
        }
    } catch (const Error& error) {
        failed(error.what());
        return error.code;
    } catch (const std::exception& error) {
        failed(error.what());
        return 2;
    }
    return worst;
}

}  // namespace host
