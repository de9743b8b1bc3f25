// SPDX-License-Identifier: Apache-2.0
// Draws a result of `./dev bench` as SVG: decoding speed by batch for each type of weights, with what the
// machine allows as a dashed line.
//
//   bench_plot RESULT.json PLOT.svg

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace {

using peregrine::core::JsonView;

struct Point {
  double batch = 0, rate = 0, limit = 0;
};

struct Series {
  std::string type;
  std::vector<Point> points;
  std::vector<std::string> notes;  ///< Prefill and serving, in words.
};

std::string notes_of_prefill(const JsonView& result) {
  std::string out = "prefill";
  for (const JsonView& row : result.at("prefill").items()) {
    out += fmt::format("{} {} tokens: {:.0f}/s ({:.0f} % of the peak)", out == "prefill" ? "" : ",",
                       row.at("tokens").as_int(1, 1 << 30), row.at("tok_s").as_number(),
                       100 * row.at("peak_fraction").as_number());
  }
  return out;
}

std::vector<Series> read_series(const JsonView& document) {
  std::vector<Series> out;
  for (const auto& [type, result] : document.at("model").members()) {
    Series series{std::string(type), {}, {notes_of_prefill(result)}};
    for (const JsonView& row : result.at("decode").items()) {
      series.points.push_back({static_cast<double>(row.at("batch").as_int(1, 1 << 20)),
                               row.at("tok_s").as_number(), row.at("roofline_tok_s").as_number()});
    }
    out.push_back(std::move(series));
  }
  for (const auto& [type, loads] : document.at("serve").members()) {
    const auto series = std::find_if(out.begin(), out.end(), [&](const Series& s) { return s.type == type; });
    if (series == out.end()) continue;
    for (const auto& [clients, load] : loads.members()) {
      series->notes.push_back(fmt::format("served, {} clients: {:.0f} tokens/s, gap p99 {:.0f} ms", clients,
                                          load.at("output_tok_s").as_number(),
                                          load.at("gap_ms").at("p99").as_number()));
    }
  }
  return out;
}

/// Both axes are logarithmic: the roofline's two parts are straight lines there.
class Plot {
 public:
  explicit Plot(const std::vector<Series>& all) {
    for (const Series& series : all) {
      for (const Point& point : series.points) {
        most_batch_ = std::max(most_batch_, point.batch);
        low_ = std::min({low_, point.rate, point.limit});
        high_ = std::max({high_, point.rate, point.limit});
      }
    }
    low_ = std::exp2(std::floor(std::log2(low_)));
    high_ = std::exp2(std::ceil(std::log2(high_)));
  }

  std::string draw(const std::string& title, const std::vector<Series>& all) const {
    constexpr const char* kColors[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b"};
    std::size_t lines = 0;
    for (const Series& series : all) lines += 1 + series.notes.size();
    const double height = kTop + kHeight + 50 + 16 * static_cast<double>(lines);
    std::string out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
        "fill=\"white\"/>\n",
        kLeft + kWidth + 45, height);
    out += text(kLeft, 20, "start", title) + axes();
    double y = kTop + kHeight + 50;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const char* color = kColors[i % std::size(kColors)];
      out += line(all[i], color, true) + line(all[i], color, false);
      out += fmt::format("<g fill=\"{}\">{}</g>\n", color,
                         text(kLeft, y, "start", all[i].type + " (dashed: what the machine allows)"));
      y += 16;
      for (const std::string& note : all[i].notes) {
        out += text(kLeft + 15, y, "start", note);
        y += 16;
      }
    }
    return out + "</svg>\n";
  }

 private:
  static constexpr double kLeft = 60, kTop = 40, kWidth = 560, kHeight = 340;

  double x(double batch) const {
    return kLeft + kWidth * (most_batch_ > 1 ? std::log2(batch) / std::log2(most_batch_) : 0.5);
  }
  double y(double rate) const {
    return kTop + kHeight * (1 - (std::log2(rate) - std::log2(low_)) / (std::log2(high_) - std::log2(low_)));
  }

  static std::string text(double x, double y, const char* anchor, const std::string& words) {
    std::string escaped;
    for (const char c : words) escaped += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                       escaped);
  }

  std::string axes() const {
    std::string out;
    const auto rule = [&](double x1, double y1, double x2, double y2) {
      out += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" stroke=\"#ddd\"/>\n", x1, y1, x2, y2);
    };
    for (double rate = low_; rate <= high_ * 1.001; rate *= 2) {
      rule(kLeft, y(rate), kLeft + kWidth, y(rate));
      out += text(kLeft - 6, y(rate) + 4, "end", fmt::format("{:g}", rate));
    }
    for (double batch = 1; batch <= most_batch_; batch *= 2) {
      rule(x(batch), kTop, x(batch), kTop + kHeight);
      out += text(x(batch), kTop + kHeight + 16, "middle", fmt::format("{:g}", batch));
    }
    return out + text(kLeft + kWidth / 2, kTop + kHeight + 32, "middle", "sequences decoded at once") +
           text(kLeft - 50, kTop - 8, "start", "tokens/s");
  }

  std::string line(const Series& series, const char* color, bool limit) const {
    std::string path, marks;
    for (const Point& point : series.points) {
      const double at = y(limit ? point.limit : point.rate);
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(point.batch), at);
      if (limit) continue;
      marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x(point.batch), at,
                           color);
      marks += text(x(point.batch) + 5, at + 14, "start",
                    fmt::format("{:.{}f}", point.rate, point.rate < 100 ? 1 : 0));
    }
    return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n", path, color,
                       limit ? " stroke-dasharray=\"5 4\"" : "") +
           marks;
  }

  double most_batch_ = 1, low_ = 1e300, high_ = 1;
};

void plot(const char* result, const char* out) {
  constexpr std::uint64_t kLargestResult = 64u << 20;
  const auto document =
      peregrine::core::parse_json(peregrine::core::read_file(result, kLargestResult), result);
  const JsonView view(document, result);
  const std::vector<Series> all = read_series(view);
  const std::string svg = Plot(all).draw(
      fmt::format("{}, {} threads", view.at("shape").as_string(), view.at("threads").as_int(1, 1 << 20)),
      all);
  std::ofstream file(out, std::ios::trunc);
  file << svg;
  file.close();
  if (!file) peregrine::core::fail(peregrine::core::ErrorKind::kInternal, "cannot write {}", out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_plot RESULT.json PLOT.svg\n");
    return 2;
  }
  try {
    plot(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_plot: %s\n", error.what());
    return 1;
  }
}
