#include "json.hpp"

#include <fmt/format.h>

#include <concepts>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>
#include <vector>

#include "json_fields.hpp"

namespace kmem::tool::report {

namespace {

using json = nlohmann::ordered_json;

constexpr std::string_view format_name = "kmem replay";
constexpr unsigned format_version = 1;
constexpr std::string_view block_columns[] = {"index", "owner", "cache", "used_pages", "present_pages"};

template <typename Enum>
[[nodiscard]] Enum enum_from(const std::string& text, std::size_t count, const std::string& place) {
  for (std::size_t value = 0; value < count; ++value) {
    if (to_string(static_cast<Enum>(value)) == text) {
      return static_cast<Enum>(value);
    }
  }
  throw json_error(fmt::format("{}: '{}' is none of the known names", place, text));
}

template <typename Value>
[[nodiscard]] Value number_from(const json& node, const std::string& place) {
  if (!node.is_number_integer()) {
    throw json_error(fmt::format("{}: expected a whole number, found {}", place, node.type_name()));
  }
  const bool fits =
      node.is_number_unsigned() ? std::in_range<Value>(node.get<std::uint64_t>()) : std::in_range<Value>(node.get<std::int64_t>());
  if (!fits) {
    throw json_error(fmt::format("{}: {} is out of range", place, node.dump()));
  }
  return node.get<Value>();
}

// ---- writing ----

[[nodiscard]] json histogram_to_json(const latency_histogram& histogram) {
  json out = json::object();
  out["count"] = histogram.count();
  out["mean"] = histogram.mean();
  out["min"] = histogram.min();
  out["p50"] = histogram.percentile(50);
  out["p99"] = histogram.percentile(99);
  out["p99_9"] = histogram.percentile(99.9);
  out["max"] = histogram.max();
  out["sum"] = histogram.sum();
  json buckets = json::array();
  for (const latency_histogram::bucket& bucket : histogram.filled_buckets()) {
    buckets.push_back(json::array({bucket.low, bucket.count}));
  }
  out["buckets"] = std::move(buckets);
  return out;
}

template <typename Row>
[[nodiscard]] json row_to_json(const Row& row);

template <typename Value>
[[nodiscard]] json value_to_json(const Value& value) {
  if constexpr (std::same_as<Value, alloc_context>) {
    return std::string(to_string(value));
  } else if constexpr (std::same_as<Value, latency_histogram>) {
    return histogram_to_json(value);
  } else if constexpr (std::same_as<Value, std::vector<name_count>> || std::same_as<Value, std::vector<name_value>> ||
                       std::same_as<Value, std::vector<sleep_row>> || std::same_as<Value, std::vector<wake_row>>) {
    json out = json::array();
    for (const auto& one : value) {
      out.push_back(row_to_json(one));
    }
    return out;
  } else {
    return value;
  }
}

class writer {
 public:
  explicit writer(json& out) : out_(out) {}
  template <typename Value>
  void operator()(const char* key, const Value& value) {
    out_[key] = value_to_json(value);
  }

 private:
  json& out_;
};

template <typename Row>
json row_to_json(const Row& row) {
  json out = json::object();
  writer write(out);
  visit_fields(write, row);
  return out;
}

template <typename Row>
[[nodiscard]] json rows_to_json(const std::vector<Row>& rows) {
  json out = json::array();
  for (const Row& row : rows) {
    out.push_back(row_to_json(row));
  }
  return out;
}

// Rows by name. Two rows of one name (a cache created twice) are both kept: the later gets " #2".
template <typename Row>
[[nodiscard]] json named_rows_to_json(const std::vector<Row>& rows, std::string Row::*name) {
  json out = json::object();
  for (const Row& row : rows) {
    std::string key = row.*name;
    for (unsigned copy = 2; out.contains(key); ++copy) {
      key = fmt::format("{} #{}", row.*name, copy);
    }
    out[key] = row_to_json(row);
  }
  return out;
}

class column_writer {
 public:
  column_writer(json& columns, const std::vector<sample>& samples) : columns_(columns), samples_(samples) {}
  template <typename Value>
  void operator()(const char* key, Value sample::*field) {
    json column = json::array();
    for (const sample& one : samples_) {
      column.push_back(one.*field);
    }
    columns_[key] = std::move(column);
  }

 private:
  json& columns_;
  const std::vector<sample>& samples_;
};

[[nodiscard]] json samples_to_json(const std::vector<sample>& samples) {
  json columns = json::object();
  column_writer write(columns, samples);
  visit_sample_columns(write);
  visit_later_sample_columns(write);
  return columns;
}

[[nodiscard]] json block_map_to_json(const block_snapshot& snapshot) {
  json out = json::object();
  out["time_ns"] = snapshot.time_ns;
  out["events"] = snapshot.events;
  out["label"] = snapshot.label;
  json blocks = json::array();
  for (const block_info& block : snapshot.blocks) {
    blocks.push_back(json::array({block.index, std::string(to_string(block.owner)), block.cache, block.used_pages, block.present_pages}));
  }
  out["blocks"] = std::move(blocks);
  return out;
}

// ---- reading ----

class reader {
 public:
  reader(const json& in, std::string place) : in_(in), place_(std::move(place)) {
    if (!in_.is_object()) {
      throw json_error(fmt::format("{}: expected an object, found {}", place_.empty() ? "document" : place_, in_.type_name()));
    }
  }

  [[nodiscard]] const json& child(const char* key) const {
    const auto found = in_.find(key);
    if (found == in_.end()) {
      throw json_error(fmt::format("{}: missing", at(key)));
    }
    return *found;
  }

  [[nodiscard]] bool has(const char* key) const { return in_.contains(key); }

  template <typename Value>
  void operator()(const char* key, Value& value) const {
    value = value_from<Value>(child(key), at(key));
  }

  [[nodiscard]] std::string at(const char* key) const { return place_.empty() ? key : place_ + "." + key; }

  template <typename Value>
  [[nodiscard]] static Value value_from(const json& node, const std::string& place);

 private:
  const json& in_;
  std::string place_;
};

[[nodiscard]] const json& array_at(const json& node, const std::string& place) {
  if (!node.is_array()) {
    throw json_error(fmt::format("{}: expected an array, found {}", place, node.type_name()));
  }
  return node;
}

[[nodiscard]] latency_histogram histogram_from(const json& node, const std::string& place) {
  const reader read(node, place);
  std::uint64_t sum = 0;
  std::uint64_t min = 0;
  std::uint64_t max = 0;
  read("sum", sum);
  read("min", min);
  read("max", max);
  std::vector<latency_histogram::bucket> buckets;
  for (const json& pair : array_at(read.child("buckets"), read.at("buckets"))) {
    if (!pair.is_array() || pair.size() != 2) {
      throw json_error(fmt::format("{}: expected pairs of [value, count]", read.at("buckets")));
    }
    const auto low = number_from<std::uint64_t>(pair[0], read.at("buckets"));
    buckets.push_back({low, low, number_from<std::uint64_t>(pair[1], read.at("buckets"))});
  }
  latency_histogram histogram;
  if (!histogram.restore(buckets, sum, min, max)) {
    throw json_error(fmt::format("{}: the buckets do not fit min and max", place));
  }
  return histogram;
}

template <typename Row>
[[nodiscard]] Row row_from(const json& node, const std::string& place) {
  Row row;
  reader read(node, place);
  visit_fields(read, row);
  return row;
}

template <typename Row>
[[nodiscard]] std::vector<Row> rows_from(const json& node, const std::string& place) {
  std::vector<Row> rows;
  for (const json& one : array_at(node, place)) {
    rows.push_back(row_from<Row>(one, fmt::format("{}[{}]", place, rows.size())));
  }
  return rows;
}

template <typename Row>
[[nodiscard]] std::vector<Row> named_rows_from(const json& node, const std::string& place) {
  if (!node.is_object()) {
    throw json_error(fmt::format("{}: expected an object, found {}", place, node.type_name()));
  }
  std::vector<Row> rows;
  for (const auto& [key, one] : node.items()) {
    rows.push_back(row_from<Row>(one, place + "." + key));
  }
  return rows;
}

template <typename Value>
Value reader::value_from(const json& node, const std::string& place) {
  if constexpr (std::same_as<Value, alloc_context>) {
    return enum_from<alloc_context>(value_from<std::string>(node, place), alloc_context_count, place);
  } else if constexpr (std::same_as<Value, latency_histogram>) {
    return histogram_from(node, place);
  } else if constexpr (std::same_as<Value, bool>) {
    if (!node.is_boolean()) {
      throw json_error(fmt::format("{}: expected true or false, found {}", place, node.type_name()));
    }
    return node.get<bool>();
  } else if constexpr (std::integral<Value>) {
    return number_from<Value>(node, place);
  } else if constexpr (std::same_as<Value, std::string>) {
    if (!node.is_string()) {
      throw json_error(fmt::format("{}: expected a string, found {}", place, node.type_name()));
    }
    return node.get<std::string>();
  } else if constexpr (std::same_as<Value, std::vector<std::string>> || std::same_as<Value, std::vector<std::uint64_t>>) {
    Value list;
    for (const json& one : array_at(node, place)) {
      list.push_back(value_from<typename Value::value_type>(one, place));
    }
    return list;
  } else {
    return rows_from<typename Value::value_type>(node, place);
  }
}

class column_reader {
 public:
  column_reader(const reader& read, std::vector<sample>& samples) : read_(read), samples_(samples) {}
  template <typename Value>
  void operator()(const char* key, Value sample::*field) {
    const json& column = array_at(read_.child(key), read_.at(key));
    if (first_) {
      samples_.resize(column.size());
      first_ = false;
    }
    if (column.size() != samples_.size()) {
      throw json_error(fmt::format("{}: {} values where the first column has {}", read_.at(key), column.size(), samples_.size()));
    }
    for (std::size_t row = 0; row < samples_.size(); ++row) {
      samples_[row].*field = reader::value_from<Value>(column[row], read_.at(key));
    }
  }

 private:
  const reader& read_;
  std::vector<sample>& samples_;
  bool first_ = true;
};

[[nodiscard]] block_info block_from(const json& node, const std::string& place) {
  if (!node.is_array() || node.size() != std::size(block_columns)) {
    throw json_error(fmt::format("{}: expected an array of {} values", place, std::size(block_columns)));
  }
  block_info block;
  block.index = number_from<std::uint32_t>(node[0], place);
  block.owner = enum_from<block_owner>(reader::value_from<std::string>(node[1], place), block_owner_count, place);
  block.cache = number_from<std::int32_t>(node[2], place);
  block.used_pages = number_from<std::uint32_t>(node[3], place);
  block.present_pages = number_from<std::uint32_t>(node[4], place);
  return block;
}

[[nodiscard]] block_snapshot block_map_from(const json& node, const std::string& place) {
  const reader read(node, place);
  block_snapshot snapshot;
  read("time_ns", snapshot.time_ns);
  read("events", snapshot.events);
  read("label", snapshot.label);
  for (const json& one : array_at(read.child("blocks"), read.at("blocks"))) {
    snapshot.blocks.push_back(block_from(one, fmt::format("{}[{}]", read.at("blocks"), snapshot.blocks.size())));
  }
  return snapshot;
}

void check_format(const reader& read) {
  std::string name;
  unsigned version = 0;
  read("format", name);
  read("format_version", version);
  if (name != format_name || version != format_version) {
    throw json_error(
        fmt::format("document: this is '{}' version {}, expected '{}' version {}", name, version, format_name, format_version));
  }
}

}  // namespace

json to_json(const replay_result& result) {
  json out = json::object();
  out["format"] = format_name;
  out["format_version"] = format_version;
  writer write(out);
  write("title", title_of(result));
  write("kmem_version", result.kmem_version);
  out["traces"] = rows_to_json(result.traces);
  visit_run_fields(write, result);
  visit_fields(write, result.total);
  write("budget_bytes", result.budget_bytes);
  visit_fields(write, result.peak);
  write("gfp_classes", result.gfp_classes);
  out["by_kind"] = named_rows_to_json(result.by_kind, &kind_row::kind);
  out["by_gfp"] = named_rows_to_json(result.by_gfp, &gfp_row::gfp);
  out["by_context"] = rows_to_json(result.by_context);
  write("cache_moment", result.cache_moment);
  out["by_cache"] = named_rows_to_json(result.by_cache, &cache_row::name);
  json latency = json::object();
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    latency[std::string(to_string(static_cast<latency_path>(path)))] = histogram_to_json(result.latency_ns[path]);
  }
  out["latency_ns"] = std::move(latency);
  out["sleeps"] = row_to_json(result.sleeps);
  out["shrinkers"] = rows_to_json(result.shrinkers);
  out["vmstat"] = rows_to_json(result.vmstat);
  out["failures"] = rows_to_json(result.failures);
  out["samples"] = samples_to_json(result.samples);
  write("block_caches", result.block_caches);
  out["block_columns"] = block_columns;
  json maps = json::array();
  for (const block_snapshot& snapshot : result.block_maps) {
    maps.push_back(block_map_to_json(snapshot));
  }
  out["block_maps"] = std::move(maps);
  write("slabinfo", result.slabinfo);
  write("buddyinfo", result.buddyinfo);
  out["error_list"] = rows_to_json(result.errors);
  return out;
}

std::string json_text(const replay_result& result) { return to_json(result).dump(1, ' ', false, json::error_handler_t::replace) + "\n"; }

replay_result result_from_json(std::string_view text) {
  json document;
  try {
    document = json::parse(text);
  } catch (const json::parse_error& error) {
    throw json_error(fmt::format("document: not JSON at byte {}", error.byte));
  }
  reader read(document, "");
  check_format(read);
  replay_result result;
  read("title", result.title);
  read("kmem_version", result.kmem_version);
  read("traces", result.traces);
  visit_run_fields(read, result);
  visit_fields(read, result.total);
  read("budget_bytes", result.budget_bytes);
  visit_fields(read, result.peak);
  read("gfp_classes", result.gfp_classes);
  result.by_kind = named_rows_from<kind_row>(read.child("by_kind"), "by_kind");
  result.by_gfp = named_rows_from<gfp_row>(read.child("by_gfp"), "by_gfp");
  read("by_context", result.by_context);
  read("cache_moment", result.cache_moment);
  result.by_cache = named_rows_from<cache_row>(read.child("by_cache"), "by_cache");
  const reader latency(read.child("latency_ns"), "latency_ns");
  for (std::size_t path = 0; path < latency_path_count; ++path) {
    latency(std::string(to_string(static_cast<latency_path>(path))).c_str(), result.latency_ns[path]);
  }
  if (read.has("sleeps")) {
    const reader sleeps(read.child("sleeps"), "sleeps");
    visit_fields(sleeps, result.sleeps);
    read("shrinkers", result.shrinkers);
    read("vmstat", result.vmstat);
  }
  read("failures", result.failures);
  const reader sample_columns(read.child("samples"), "samples");
  column_reader columns(sample_columns, result.samples);
  visit_sample_columns(columns);
  if (sample_columns.has("sleeps")) {
    visit_later_sample_columns(columns);
  }
  read("block_caches", result.block_caches);
  for (const json& one : array_at(read.child("block_maps"), "block_maps")) {
    result.block_maps.push_back(block_map_from(one, fmt::format("block_maps[{}]", result.block_maps.size())));
  }
  read("slabinfo", result.slabinfo);
  read("buddyinfo", result.buddyinfo);
  read("error_list", result.errors);
  return result;
}

}  // namespace kmem::tool::report
