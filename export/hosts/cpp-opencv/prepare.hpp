// What the graph does for other hosts: window to 256 levels, then Pillow's antialiased bilinear resize.
#pragma once

#include "../cpp/host.hpp"

namespace host {

// One pass of Pillow's resize along the rows of an 8-bit image: triangle filter, in fixed point as Pillow computes it.
inline cv::Mat resize_rows(const cv::Mat& image, int width) {
    constexpr int BITS = 22;
    const double scale = static_cast<double>(image.cols) / width, support = std::max(scale, 1.0);
    const int channels = image.channels();
    cv::Mat resized(image.rows, width, image.type());
    for (int x = 0; x < width; x++) {
        const double centre = (x + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int end = std::min(static_cast<int>(centre + support + 0.5), image.cols);
        std::vector<double> weights;
        double sum = 0;
        for (int from = first; from < end; from++) {
            weights.push_back(std::max(0.0, 1 - std::abs((from - centre + 0.5) / support)));
            sum += weights.back();
        }
        std::vector<int> fixed;
        for (const double weight : weights) fixed.push_back(static_cast<int>(weight / sum * (1 << BITS) + 0.5));
        for (int y = 0; y < image.rows; y++)
            for (int c = 0; c < channels; c++) {
                int total = 1 << (BITS - 1);
                for (int from = first; from < end; from++)
                    total += image.ptr(y)[from * channels + c] * fixed[from - first];
                resized.ptr(y)[x * channels + c] = cv::saturate_cast<uchar>(total >> BITS);
            }
    }
    return resized;
}

// Returns an 8-bit image at another size: across first, rounded to levels, then down.
inline cv::Mat resize(cv::Mat image, int height, int width) {
    if (image.cols != width) image = resize_rows(image, width);
    if (image.rows != height) image = resize_rows(image.t(), height).t();
    return image;
}

// Returns a 16-bit image in 256 levels: its window's LOW becomes 0, HIGH 255.
inline cv::Mat windowed(const cv::Mat& image, const Bundle& bundle) {
    std::vector<uchar> levels(65536);
    const float scale = static_cast<float>(255.0 / (bundle.high - bundle.low));
    for (int value = 0; value < 65536; value++)
        levels[value] = cv::saturate_cast<uchar>((static_cast<float>(value) - static_cast<float>(bundle.low)) * scale);
    cv::Mat found(image.size(), CV_8UC(image.channels()));
    for (int y = 0; y < image.rows; y++)
        for (int i = 0; i < image.cols * image.channels(); i++) found.ptr(y)[i] = levels[image.ptr<ushort>(y)[i]];
    return found;
}

// Returns an image, in the model's channels and depth, as levels [height, width] of the network.
inline cv::Mat prepared(cv::Mat image, const Bundle& bundle) {
    if (image.depth() == CV_16U) image = windowed(image, bundle);
    if (!bundle.letterbox) return resize(image, bundle.height, bundle.width);
    // In 64 bits, half rounds up: the same size to the pixel as in training.
    const int64_t h = image.rows, w = image.cols, H = bundle.height, W = bundle.width;
    const bool fits_width = W * h <= H * w;
    const int inner_h = static_cast<int>(fits_width ? std::max<int64_t>(1, (h * W + w / 2) / w) : H);
    const int inner_w = static_cast<int>(fits_width ? W : std::max<int64_t>(1, (w * H + h / 2) / h));
    cv::Mat canvas = cv::Mat::zeros(bundle.height, bundle.width, image.type());
    const cv::Rect inner((bundle.width - inner_w) / 2, (bundle.height - inner_h) / 2, inner_w, inner_h);
    resize(image, inner_h, inner_w).copyTo(canvas(inner));
    return canvas;
}

}  // namespace host
